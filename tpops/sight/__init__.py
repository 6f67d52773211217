"""What an operator sees of a running server: logs, figures, sessions."""
