import sys, time
from tests.simulation.shell.schedule import Script, play
seed=int(sys.argv[1]); n=int(sys.argv[2]) if len(sys.argv)>2 else 1
t=time.time()
for s in range(seed, seed+n):
    t0=time.time()
    r=play(Script.of(s))
    print(s, r.digest[:8], r.turns, r.runs, r.faults, r.broken, round(time.time()-t0,2))
    if r.broken:
        for l in r.lines[-60:]: print(l)
        break
