"""Pages for a person: HTML, and pictures inside it."""
