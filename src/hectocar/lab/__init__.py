"""The lab: pictures and tables for people."""
