"""The screens: what they show, and the doors behind their buttons."""
