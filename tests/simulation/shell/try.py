import sys, time
from tests.simulation.shell.schedule import Script, play
seed=int(sys.argv[1]); n=int(sys.argv[2]) if len(sys.argv)>2 else 1
bad=0
tt=time.time()
for s in range(seed, seed+n):
    t0=time.time()
    r=play(Script.of(s))
    if n<2 or r.broken: print(s, r.digest[:8], r.turns, r.runs, r.faults, r.script.disorder, str(r.broken)[:1500], round(time.time()-t0,2))
    bad+=bool(r.broken)
    if n==1:
        for l in r.lines:
            if 'heartbeat' not in l and 'heartbeat_ack' not in l: print(round(l[0]/1e6,6), *l[1:])
print(n, bad, time.time()-tt)
