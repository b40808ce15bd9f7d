"""What asks the Kubernetes API. Each module here registers its collectors when it is imported."""
