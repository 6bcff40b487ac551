"""One package per toolbox: they translate arguments and register. No arithmetic here, and no import of each other."""
