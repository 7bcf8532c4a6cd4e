"""The data set: which photographs there are, what they are called, who is held out."""
