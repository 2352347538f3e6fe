"""Traffic beside settings: what a service mesh is told of a rollout, as files or through the Kubernetes API."""
