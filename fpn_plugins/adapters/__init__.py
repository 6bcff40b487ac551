"""One package per toolbox: they translate arguments and register, and hold no arithmetic. They never import each other."""
