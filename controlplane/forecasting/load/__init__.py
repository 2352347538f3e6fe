"""Load some minutes ahead: methods in a race, a mixture that leans on whichever does well, and bands that keep their coverage."""
