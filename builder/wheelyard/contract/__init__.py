"""What an image of the set is: its configuration, recipe, constraints and exclusions. Pure."""
