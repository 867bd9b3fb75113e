"""What commands for the management API are made of: who is logged in where, the calls, the output, the exit codes."""
