"""Publish a trained detector: its weights alone, a model card, and an entry in the model zoo."""

from fpn_plugins.commands.publish import main

if __name__ == "__main__":
    main()
