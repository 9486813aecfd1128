"""What the user wants: rehost.toml, the env files, and what the Dockerfile needs."""
