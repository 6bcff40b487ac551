"""Register the core's modules in each toolbox and translate arguments; no arithmetic, no imports between adapters."""
