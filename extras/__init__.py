"""What the paper does not need: see README.md in this folder for what is where."""
