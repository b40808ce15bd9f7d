"""How long it takes to read all facts of the GPU nodes: this suite, pytest-testinfra and Ansible, in one run."""
