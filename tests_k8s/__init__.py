"""Checks of the Kubernetes cluster and of what every workload on it relies upon."""
