"""`python -m penstock_agent`"""

from penstock_agent.main import main

main()
