"""Tables of key names, one file per module of this package; the engine is `fpn_plugins.weights.key_map`."""
