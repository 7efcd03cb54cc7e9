"""Mutated input for everything that reads what a stranger or a failing disk may have written."""
