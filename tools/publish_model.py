"""Publish a trained detector: its weights without the rest of the training, a card, an entry in the model zoo."""

from fpn_plugins.commands.publish import main

if __name__ == "__main__":
    main()
