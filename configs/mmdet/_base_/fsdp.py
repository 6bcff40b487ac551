"""Sharded training on several cards; a config inherits this beside its own base, or one writes on the command line:

--cfg-options runner_type=FlexibleRunner strategy.type=fpn_plugins.FSDPStrategy
"""

runner_type = "FlexibleRunner"
strategy = dict(type="fpn_plugins.FSDPStrategy")
