"""What is in a pool of images and its tables, before anything is trained on them."""
