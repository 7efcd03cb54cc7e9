"""What is known of each framework, in one record each: all that tells one from another."""
