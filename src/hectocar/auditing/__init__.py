"""The audit of a user's photographs: what to look at before training, ranked, each with a score and a reason."""
