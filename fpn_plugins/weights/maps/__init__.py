"""Tables of key names, one file per code base. Data only: the engine is `fpn_plugins.weights.key_map`."""
