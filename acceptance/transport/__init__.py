"""How commands reach hosts: `shell.py` says what a shell is, `ssh.py` and `local.py` are the live ones."""
