"""From the runtime's plain values to the messages of penstock.v1."""
