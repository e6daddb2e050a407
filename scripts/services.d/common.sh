# shellcheck shell=bash
# Functions shared by the parts of scripts/services: messages, state files, ports, processes.
# shellcheck disable=SC2154 # parts and base are set by scripts/services

say() { printf 'services: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# field FILE NAME: prints the value of the line NAME=value; empty if there is none.
field() {
    local line
    [ -r "$1" ] || return 0
    while IFS= read -r line; do
        [ "${line%%=*}" = "$2" ] || continue
        printf '%s' "${line#*=}"
        return 0
    done <"$1"
}

# without_password ADDRESS: prints the address with a masked password.
without_password() { printf '%s' "$1" | sed 's|://\([^:/@]*\):[^/@]*@|://\1:…@|'; }

# variable SERVICE: prints the name of the environment variable that tests read.
variable() {
    case "$1" in
        postgres) echo ONRUSH_TEST_POSTGRES ;;
        redis) echo ONRUSH_TEST_REDIS ;;
        kafka) echo ONRUSH_TEST_KAFKA ;;
        *) fail "there is no service $1: postgres, redis, kafka" ;;
    esac
}

# answers SERVICE ADDRESS: succeeds if a server with the service's protocol accepts requests there.
answers() {
    if have timeout; then
        timeout 5 bash "$parts/probe.sh" "$1" "$2" 2>/dev/null
    else
        bash "$parts/probe.sh" "$1" "$2" 2>/dev/null
    fi
}

# free_ports COUNT: prints free ports of 127.0.0.1, one per line.
# They are below the range for outgoing connections. Within that range, a client that retries the port of a stopped server could get the
# same port as its source port. It would connect to itself and block the restart of the server.
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

# pid_in FILE: prints the process id in the first line; empty if there is none.
pid_in() {
    local pid=""
    [ -r "$1" ] && IFS= read -r pid <"$1"
    printf '%s' "$pid"
}

# runs PID WORD: succeeds if the process lives and has WORD on its command line, which excludes a reused process id.
runs() {
    local line
    [ -n "$1" ] && [ -r "/proc/$1/cmdline" ] || return 1
    # The process may have ended since the test above.
    line=$({ tr '\0' ' ' <"/proc/$1/cmdline"; } 2>/dev/null) || return 1
    case "$line" in *"$2"*) return 0 ;; *) return 1 ;; esac
}

# eventually SECONDS COMMAND…: repeats the command until it succeeds. Fails after SECONDS.
eventually() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.05
    done
}

gone() { ! runs "$1" "$2"; }

# end_process PID WORD MODE: ends a process and waits until it is gone. `orderly` sends SIGTERM first.
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

# last_lines FILE: prints the end of a log after a failure.
last_lines() {
    [ -r "$1" ] || return 0
    say "the end of $1:"
    tail -n 20 "$1" >&2
}
