"""A release's life: what is built, what runs, what stands in front of it, what is kept to go back to."""
