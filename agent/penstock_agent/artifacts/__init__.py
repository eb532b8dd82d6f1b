"""What steps make and take that is no small value: its way between the steps of this machine and the store."""
