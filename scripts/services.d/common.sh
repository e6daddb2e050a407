# shellcheck shell=bash
# What the parts of scripts/services share: words to the user, state files, ports, processes.
# shellcheck disable=SC2154 # parts and base are set by scripts/services

say() { printf 'services: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# field FILE NAME: the value of the line NAME=value; empty when there is none.
field() {
    local line
    [ -r "$1" ] || return 0
    while IFS= read -r line; do
        [ "${line%%=*}" = "$2" ] || continue
        printf '%s' "${line#*=}"
        return 0
    done <"$1"
}

# without_password ADDRESS: as it may be shown.
without_password() { printf '%s' "$1" | sed 's|://\([^:/@]*\):[^/@]*@|://\1:…@|'; }

# variable SERVICE: the name of the variable by which tests find it.
variable() {
    case "$1" in
        postgres) echo ONRUSH_TEST_POSTGRES ;;
        redis) echo ONRUSH_TEST_REDIS ;;
        kafka) echo ONRUSH_TEST_KAFKA ;;
        *) fail "there is no service $1: postgres, redis, kafka" ;;
    esac
}

# answers SERVICE ADDRESS: whether a server that speaks the service's protocol takes requests there.
answers() {
    if have timeout; then
        timeout 5 bash "$parts/probe.sh" "$1" "$2" 2>/dev/null
    else
        bash "$parts/probe.sh" "$1" "$2" 2>/dev/null
    fi
}

# free_ports COUNT: ports of 127.0.0.1 that nothing is bound to, one a line.
# Below the range for outgoing connections: a client that keeps trying the port of a stopped server there could be given that very port
# as its own, connect to itself, and keep the server from coming back.
free_ports() {
    have perl || fail "perl is missing; it finds free ports. On Debian: apt-get install perl"
    perl -MIO::Socket::INET -e '
        my $count = shift;
        my ($first, $end) = (10000, 32768);
        if (open(my $range, "<", "/proc/sys/net/ipv4/ip_local_port_range")) { ($end) = split(" ", <$range>); }
        my @held;
        for (my $try = 0; @held < $count && $try < 1000; $try++) {
            my $port = $end - $first > 1000 ? $first + int(rand($end - $first)) : 0;
            my $socket = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => $port, Proto => "tcp", Listen => 1) or next;
            push @held, $socket;
        }
        die "no free port\n" if @held < $count;
        print $_->sockport, "\n" for @held;
    ' "$1"
}

# pid_in FILE: the process id in its first line; empty when there is none.
pid_in() {
    local pid=""
    [ -r "$1" ] && IFS= read -r pid <"$1"
    printf '%s' "$pid"
}

# runs PID WORD: whether the process lives and has WORD on its command line, so that a number used again is not taken for the server.
runs() {
    local line
    [ -n "$1" ] && [ -r "/proc/$1/cmdline" ] || return 1
    # It may end in between.
    line=$({ tr '\0' ' ' <"/proc/$1/cmdline"; } 2>/dev/null) || return 1
    case "$line" in *"$2"*) return 0 ;; *) return 1 ;; esac
}

# eventually SECONDS COMMAND…: tries until it holds.
eventually() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.05
    done
}

gone() { ! runs "$1" "$2"; }

# end_process PID WORD MODE: ends a process and waits until it is gone; `orderly` asks first.
end_process() {
    runs "$1" "$2" || return 0
    if [ "$3" = orderly ]; then
        kill -TERM "$1" 2>/dev/null || true
        eventually 60 gone "$1" "$2" && return 0
        say "process $1 did not end within 60 s: killing it"
    fi
    kill -KILL "$1" 2>/dev/null || true
    eventually 10 gone "$1" "$2" || fail "process $1 cannot be ended"
}

# last_lines FILE: the end of a log, for a failure's sake.
last_lines() {
    [ -r "$1" ] || return 0
    say "the end of $1:"
    tail -n 20 "$1" >&2
}
