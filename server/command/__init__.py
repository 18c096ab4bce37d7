"""The `chat-agent` command: its flags, what each subcommand does, and the terminal."""
