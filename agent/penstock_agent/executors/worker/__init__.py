"""The process that runs steps: started by the agent, fed with attempts, killed with all that it started."""
