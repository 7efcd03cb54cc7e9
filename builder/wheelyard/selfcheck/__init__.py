"""What an image says about itself. Independent of `builder`: it runs wherever Python does."""
