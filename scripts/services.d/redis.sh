# shellcheck shell=bash
# One Redis server without persistence: it is empty after every start.

REDIS_START_SECONDS=60

redis_create() {
    local port
    port=$(free_ports 1)
    cat >"$1/redis.state" <<END
redis_by=packages
redis_address=redis://127.0.0.1:$port
redis_port=$port
redis_home=$1/redis
redis_pid_file=$1/redis/pid
redis_log=$1/redis/log
END
}

redis_first() { mkdir -p "$1/redis"; }

# redis_up PORT PID: succeeds if this process answers, and not another one that took the port.
redis_up() { redis-cli -h 127.0.0.1 -p "$1" info server 2>/dev/null | tr -d '\r' | grep -qx "process_id:$2"; }
redis_settled() { redis_up "$1" "$2" || ! kill -0 "$2" 2>/dev/null; }

redis_start() {
    local home port pid
    home=$(field "$1" redis_home)
    port=$(field "$1" redis_port)
    setsid redis-server --bind 127.0.0.1 --port "$port" --dir "$home" --save '' --appendonly no --daemonize no </dev/null >>"$home/log" 2>&1 &
    pid=$!
    echo "$pid" >"$home/pid"
    if eventually "$REDIS_START_SECONDS" redis_settled "$port" "$pid" && redis_up "$port" "$pid"; then return 0; fi
    last_lines "$home/log"
    return 1
}

redis_stop() {
    local mode=$2
    [ "$mode" = orderly ] || mode="kill"
    end_process "$(pid_in "$(field "$1" redis_pid_file)")" ":$(field "$1" redis_port)" "$mode"
}

redis_remove() { rm -rf "$(field "$1" redis_home)"; }
