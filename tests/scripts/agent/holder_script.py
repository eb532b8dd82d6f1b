"""Golden scripts of the holder: what happens to it, and what it wants done.

    slots 2 disk_floor=1000

    > open
      hello
    > welcome epoch=1
      credits 2
    > grant a#1 seq=1
      accept a#1
    > written a#1
      start a#1

A line that begins with `>` is a stimulus; the indented lines below are the effects. A `#` at the beginning of a line is
a comment that is kept. A lease is named `step#token`. Instants are since the start of the script; every message that
the agent writes is stamped with `say`.

Without a word more a stimulus is of the home stream; `link=1` says that it is of that link, as behind an effect. Runs
are named as their steps are.
"""

from __future__ import annotations

from collections.abc import Callable

from penstock_agent.core import effects as do
from penstock_agent.core import inputs as said
from penstock_agent.core.holder import Holder
from penstock_agent.core.leases import Ended, Grant, Handle, Held, LeaseKey, Outcome, Restored, Status
from penstock_agent.core.links import Peer
from penstock_agent.core.talking import Named

SECOND = 1_000_000
START = 1_000 * SECOND
TTL = 30 * SECOND


def play(text: str) -> str:
    """The script with what really happens under each stimulus."""
    return Script(text.splitlines()).play()


def span(text: str) -> int:
    for unit, size in (("ms", 1_000), ("us", 1), ("s", SECOND)):
        if text.endswith(unit):
            return int(float(text.removesuffix(unit)) * size)
    raise ValueError(text)


def shown(microseconds: int) -> str:
    return f"{microseconds / SECOND:g}s"


def _peer(name: str) -> Peer:
    coordinator_id, _, epoch = name.partition("@")
    return Peer(coordinator_id, f"{coordinator_id}:7000", int(epoch))


class Script:
    def __init__(self, lines: list[str]) -> None:
        self._lines = [line.rstrip() for line in lines]
        self._now = START
        self._streams: list[int] = []
        """Their links: stream 1 is the first."""
        self._handles: dict[str, Handle] = {}
        self._names: dict[LeaseKey, str] = {}
        settings, restored = self._settings()
        self._holder = Holder(int(settings.get("slots", 1)), int(settings.get("disk_floor", 0)), restored)
        for lease in self._holder.book.all.values():
            self._handles[f"{self._names[lease.key]}#{lease.token}"] = lease.handle

    def play(self) -> str:
        out: list[str] = []
        for line in self._lines:
            if line.startswith("> "):
                out.append(line)
                out += [f"  {effect}" for effect in self._stimulate(line[2:].split())]
            elif not line.startswith(" "):
                out.append(line)
        return "\n".join(out).rstrip("\n") + "\n"

    def _settings(self) -> tuple[dict[str, str], list[Restored]]:
        """The lines before the first stimulus."""
        settings: dict[str, str] = {}
        restored: list[Restored] = []
        for line in self._lines:
            words = line.split()
            if line.startswith(">"):
                break
            if words[:1] == ["slots"]:
                settings["slots"] = words[1]
                settings |= dict(word.split("=") for word in words[2:])
            elif words[:1] == ["spooled"]:
                key, token = self._lease(words[1])
                restored.append(Restored(key, token, 1, words[1].encode(), Status.OK, START, None))
        return settings, restored

    def _lease(self, name: str) -> tuple[LeaseKey, int]:
        step, _, token = name.partition("#")
        key = (step.encode(), 0, -1)
        self._names[key] = step
        return key, int(token)

    # --- stimuli

    def _stimulate(self, words: list[str]) -> list[str]:
        verb, *rest = words
        names = [word for word in rest if "=" not in word]
        more = dict(word.split("=", 1) for word in rest if "=" in word)
        match verb:
            case "at":
                self._now = START + span(names[0])
                return []
            case "tick":
                return self._tick(names)
            case "say":
                return [f"seq {self._holder.stamp(self._now, self._stream(more))}"]
            case "hello-names":
                return self._shown_named(self._holder.named_in_hello(self._now, self._stream(more)))
            case "heartbeat-names":
                return self._shown_named(self._holder.named_in_heartbeat(self._now, self._stream(more)))
            case "snapshot":
                return [self._shown_held(held) for held in self._holder.book.snapshot(self._now)]
            case "given-up":
                return [f"{self._names[key]}#{token}" for key, token in self._holder.book.given_up.named()]
            case "next":
                deadline = self._holder.next_deadline()
                return ["never" if deadline is None else shown(deadline - START)]
        effects = self._holder.handle(self._now, self._input(verb, names, more))
        self._learn()
        return [self._shown(effect) + self._place(effect) for effect in effects]

    def _place(self, effect: do.Effect) -> str:
        """Of what is not said at home."""
        link = self._streams[effect.stream - 1] if isinstance(effect, do.Word) and effect.stream else 0
        return f" link={link}" if link else ""

    def _tick(self, names: list[str]) -> list[str]:
        """To the next deadline, or to the instant given."""
        deadline = self._holder.next_deadline()
        self._now = START + span(names[0]) if names else max(deadline or self._now, self._now)
        effects = self._holder.handle_timer(self._now, 0.5)
        return [f"at {shown(self._now - START)}", *(self._shown(effect) + self._place(effect) for effect in effects)]

    def _input(self, verb: str, names: list[str], more: dict[str, str]) -> said.Input:
        inputs: dict[str, Callable[[list[str], dict[str, str]], said.Input]] = {
            "open": self._open,
            "welcome": self._welcome,
            "grant": self._grant,
            "verdict": self._verdict,
            "cancel": self._cancel,
            "ended": self._ended,
            "ack": self._ack,
        }
        if verb in inputs:
            return inputs[verb](names, more)
        return self._plain_input(verb, names, more)

    def _plain_input(self, verb: str, names: list[str], more: dict[str, str]) -> said.Input:
        stream = self._stream(more)
        handles = [self._handles[name] for name in names if name in self._handles]
        plain: dict[str, Callable[[], said.Input]] = {
            "closed": lambda: said.StreamClosed(stream),
            "written": lambda: said.AcceptsWritten(handles, self._holder.stamp(self._now, stream)),
            "started": lambda: said.AttemptsStarted(handles),
            "unstarted": lambda: said.LeasesUnstarted(handles),
            "refused": lambda: said.LeasesRefused(handles, more["reason"], "for a reason"),
            "heartbeat-ack": lambda: said.HeartbeatAcked(
                stream, int(more["basis"]), span(more.get("ttl", "30s")), [self._lease(name) for name in names], 5
            ),
            "return": lambda: said.ReturnOrdered(stream, [self._lease(name) for name in names]),
            "pause": lambda: said.Paused(stream, more.get("reason", "")),
            "resume": lambda: said.Resumed(stream),
            "drain": lambda: said.DrainOrdered(stream, span(more["deadline"]), "requested"),
            "sigterm": lambda: said.DrainRequested(span(more.get("patience", "300s")), "SIGTERM"),
            "goaway": lambda: said.GoawayOrdered(stream, names[0], span(more["after"])),
            "peers": lambda: said.PeersNamed(stream, [_peer(name) for name in names]),
            "moved": lambda: said.RunsMoved(stream, [name.encode() for name in names]),
            "redirect": lambda: said.Redirected(stream, names[0]),
            "disk": lambda: said.DiskMeasured(int(names[0])),
        }
        return plain[verb]()

    def _open(self, names: list[str], more: dict[str, str]) -> said.Input:
        link = int(more.get("link", 0))
        self._streams.append(link)
        return said.StreamOpened(len(self._streams), link)

    def _stream(self, more: dict[str, str]) -> int:
        """The newest of its link."""
        if "stream" in more:
            return int(more["stream"])
        link = int(more.get("link", 0))
        return max((number for number, each in enumerate(self._streams, 1) if each == link), default=0)

    def _welcome(self, names: list[str], more: dict[str, str]) -> said.Input:
        stream = self._stream(more)
        return said.Welcomed(
            stream=stream,
            session_epoch=stream,
            coordinator_id=names[0] if names else "c",
            coordinator_epoch=int(more["epoch"]),
            heartbeat_interval=5 * SECOND,
            lease_ttl=TTL,
            resend_interval=5 * SECOND,
            basis_seq=1,
            head_epoch=int(more.get("head", 0)),
        )

    def _grant(self, names: list[str], more: dict[str, str]) -> said.Input:
        first = int(more.get("seq", 1))
        grants = [
            Grant(
                first + number,
                *self._lease(name),
                attempt=1,
                timeout=span(more["timeout"]) if "timeout" in more else None,
                stop_grace=10 * SECOND,
                work=None,
            )
            for number, name in enumerate(names)
        ]
        return said.Granted(self._stream(more), grants, int(more.get("basis", 1)), span(more.get("ttl", "30s")))

    def _verdict(self, names: list[str], more: dict[str, str]) -> said.Input:
        verdict = said.Verdict[names[0]]
        judged = [(*self._lease(name), verdict, TTL) for name in names[1:]]
        return said.Judged(self._stream(more), judged, int(more.get("basis", 1)))

    def _cancel(self, names: list[str], more: dict[str, str]) -> said.Input:
        grace = span(more.get("grace", "10s"))
        return said.CancelOrdered(self._stream(more), [(*self._lease(name), "asked to", grace) for name in names])

    def _ended(self, names: list[str], more: dict[str, str]) -> said.Input:
        ended = Ended[more.get("how", "OK")]
        run_time = span(more.get("ran", "100ms"))
        return said.AttemptsEnded([Outcome(self._handles[name], ended, name.encode(), run_time) for name in names])

    def _ack(self, names: list[str], more: dict[str, str]) -> said.Input:
        result_id = more["id"].encode() if "id" in more else None
        acks = [(*self._lease(name), result_id or name.encode()) for name in names]
        return said.ResultsAcked(self._stream(more), acks)

    # --- effects

    def _learn(self) -> None:
        for lease in self._holder.book.all.values():
            self._handles[f"{self._names[lease.key]}#{lease.token}"] = lease.handle

    def _named(self, handle: Handle) -> str:
        return next(name for name, known in self._handles.items() if known == handle)

    def _shown_held(self, held: Held) -> str:
        return f"{self._names[held.key]}#{held.token} {held.phase.name} {shown(held.elapsed)}"

    def _shown_named(self, named: Named | None) -> list[str]:
        if named is None:
            return ["nothing"]
        sessions = " ".join(map(str, named.open_sessions)) or "none"
        return [
            f"sessions {sessions}{' pending' if named.pending else ''}{' all' if named.names_all else ''}",
            *([f"links {' '.join(named.links)}"] if named.links else ()),
            f"epochs own={named.coordinator_epoch} head={named.head_epoch} session={named.last_session_epoch}",
            *map(self._shown_held, named.held),
            *(f"elsewhere {self._shown_held(held)} session={held.session}" for held in named.elsewhere),
        ]

    def _shown(self, effect: do.Effect) -> str:
        match effect:
            case do.Accept() | do.Start() | do.Spool():
                leases = " ".join(self._named(lease.handle) for lease in effect.leases)
                return f"{type(effect).__name__.lower()} {leases}"
            case do.SendResults():
                return "results " + " ".join(
                    f"{self._names[lease.key]}#{lease.token}={lease.result.status.name if lease.result else None}"
                    for lease in effect.leases
                )
            case do.Reject():
                return "reject " + " ".join(
                    f"{self._names[key]}#{token}={reason}" for key, token, reason, _ in effect.leases
                )
            case do.SendReturned():
                void = f" void={effect.void_credits}" if effect.void_credits else ""
                return (
                    "returned "
                    + " ".join(
                        f"{self._names[key]}#{token}{'=started' if started else ''}"
                        for key, token, started in effect.leases
                    )
                    + void
                )
            case do.Withdraw():
                return "withdraw " + " ".join(map(self._named, effect.handles))
            case do.Stop() | do.Kill():
                return f"{type(effect).__name__.lower()} {self._named(effect.handle)}"
            case _:
                return self._shown_plain(effect)

    @staticmethod
    def _shown_plain(effect: do.Effect) -> str:
        match effect:
            case do.SayHello():
                return "hello"
            case do.SendCredits():
                return f"credits {effect.grant_limit}"
            case do.SendHeartbeat():
                return "heartbeat"
            case do.SendDraining():
                return f"draining {shown(effect.deadline)} {effect.reason}"
            case do.SendGoodbye():
                return f"goodbye {effect.reason}"
            case do.CloseStream():
                after = "" if effect.reconnect_after is None else f" after {shown(effect.reconnect_after)}"
                return f"close {effect.reason}{after}"
            case do.KeepLinks():
                return " ".join(["links", *(f"{link}={peer.name}" for link, peer in effect.links)])
            case do.UseAddress():
                return f"address {effect.address}"
            case do.Unspool():
                return f"unspool {len(effect.result_ids)}"
            case _:
                return repr(effect)
