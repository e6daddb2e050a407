# shellcheck shell=bash
# One PostgreSQL server with its own data folder and port, and trust on loopback.
# Durable as in production, because tests kill it and count the rows that are left.

POSTGRES_START_SECONDS=60

# PostgreSQL refuses to run as root.
as_postgres() {
    if [ "$(id -u)" != 0 ]; then
        "$@"
    elif id postgres >/dev/null 2>&1; then
        runuser -u postgres -- "$@"
    else
        runuser -u nobody -- "$@"
    fi
}

# postgres_folder: prints the parent folder of root's cluster: memory if 4 GiB are free, else /var/tmp. Another user may enter both.
# Memory, because each test creates a database, and syncs to a slow disk would take most of the time.
postgres_folder() {
    local room
    room=$(df --output=avail -k /dev/shm 2>/dev/null | tail -n 1) || room=0
    if [ -w /dev/shm ] && [ "${room:-0}" -ge 4194304 ]; then echo /dev/shm; else echo /var/tmp; fi
}

# postgres_create FOLDER: creates the home of the server and writes its address.
postgres_create() {
    local home
    if [ "$(id -u)" = 0 ]; then
        # Another user runs the server, and may have no access to root's home.
        home=$(mktemp -d "$(postgres_folder)/onrush-postgres-XXXXXX")
        chown "$(as_postgres id -u)" "$home"
    else
        home=$1/postgres
        mkdir -p "$home"
    fi
    local port
    port=$(free_ports 1)
    cat >"$1/postgres.state" <<END
postgres_by=packages
postgres_address=postgres://postgres@127.0.0.1:$port/postgres
postgres_port=$port
postgres_home=$home
postgres_pid_file=$home/data/postmaster.pid
postgres_log=$home/log
END
}

# postgres_first FOLDER: creates a data folder, without sync, because it contains nothing of value yet.
postgres_first() {
    local home port programs
    home=$(field "$1/postgres.state" postgres_home)
    port=$(field "$1/postgres.state" postgres_port)
    programs=$(postgres_programs)
    (cd / && as_postgres "$programs/initdb" --pgdata="$home/data" --username=postgres --auth=trust --encoding=UTF8 --locale=C.UTF-8 --no-sync) >"$1/initdb.log" 2>&1 \
        || { last_lines "$1/initdb.log"; return 1; }
    cat >>"$home/data/postgresql.conf" <<END
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = ''
max_connections = 400
shared_buffers = 256MB
fsync = on
synchronous_commit = on
full_page_writes = on
wal_level = replica
wal_buffers = 16MB
max_wal_size = 2GB
min_wal_size = 256MB
timezone = 'UTC'
log_line_prefix = '%m [%p] %q%a '
END
}

# postgres_start STATE: starts the server, also on the data of a killed one.
postgres_start() {
    local home log
    home=$(field "$1" postgres_home)
    log=$(field "$1" postgres_log)
    (cd / && as_postgres "$(postgres_programs)/pg_ctl" start --silent --wait --timeout="$POSTGRES_START_SECONDS" --pgdata="$home/data" --log="$log") </dev/null >/dev/null 2>&1 \
        || { last_lines "$log"; return 1; }
}

# postgres_stop STATE orderly|immediate|kill: stops the server.
postgres_stop() {
    local home pid mode=fast seconds=60
    home=$(field "$1" postgres_home)
    pid=$(pid_in "$home/data/postmaster.pid")
    runs "$pid" "$home/data" || return 0
    case "$2" in
        orderly) ;;
        # An immediate shutdown writes nothing, so ten seconds are enough.
        immediate) mode=immediate seconds=10 ;;
        kill) postgres_kill "$home" "$pid"; return 0 ;;
    esac
    # Not a bare `return`: within a trap, it would return the status from before the trap.
    if (cd / && as_postgres "$(postgres_programs)/pg_ctl" stop --silent --mode="$mode" --timeout="$seconds" --pgdata="$home/data") >/dev/null 2>&1; then return 0; fi
    say "postgres did not end within $seconds s: killing it"
    postgres_kill "$home" "$pid"
}

# postgres_kill HOME PID: kills all its processes at once, like a failing machine. A surviving child would prevent the next start.
postgres_kill() {
    local pids one segment
    segment=$(sed -n '7s/.* //p' "$1/data/postmaster.pid")
    pids="$2 $(cat "/proc/$2/task/$2/children" 2>/dev/null || true)"
    # shellcheck disable=SC2086 # a list of numbers
    kill -KILL $pids 2>/dev/null || true
    for one in $pids; do
        eventually 10 gone "$one" postgres || fail "process $one cannot be ended"
    done
    # A zombie keeps its process id until its parent reads the exit status, and a new server would consider it alive.
    rm -f "$1/data/postmaster.pid"
    [ -z "$segment" ] || ipcrm -m "$segment" 2>/dev/null || true
}

# postgres_remove STATE: removes the data of a stopped server.
postgres_remove() {
    local home
    home=$(field "$1" postgres_home)
    [ -z "$home" ] || rm -rf "$home"
}
