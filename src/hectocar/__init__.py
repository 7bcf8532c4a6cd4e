"""hectocar: fine-grained car recognition from photographs."""
