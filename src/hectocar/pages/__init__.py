"""Pages for a person: pictures, and the templates (templates/) that draw plain data as HTML."""
