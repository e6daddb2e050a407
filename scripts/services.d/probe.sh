#!/usr/bin/env bash
# probe.sh postgres|redis|kafka ADDRESS: succeeds if a server with this protocol accepts requests there. Needs no client program.
set -euo pipefail

service=$1
address=$2

# host_and_port DEFAULT_PORT ADDRESS: sets host and port from a URL or from host:port.
host_and_port() {
    local rest=${2#*://}
    rest=${rest%%[/?]*}
    rest=${rest##*@}
    case "$rest" in
        *:*) host=${rest%:*} port=${rest##*:} ;;
        *) host=$rest port=$1 ;;
    esac
}

# Sends a startup message. The answer R requests or grants authentication. A server that is still starting answers with an error.
postgres() {
    host_and_port 5432 "$address"
    local user=postgres rest=${address#*://} length
    rest=${rest%%[/?]*}
    case "$rest" in *@*) user=${rest%@*} user=${user%%:*} ;; esac
    length=$(printf '\\x%02x' $((15 + ${#user})))
    exec 3<>"/dev/tcp/$host/$port"
    printf "\\x00\\x00\\x00${length}\\x00\\x03\\x00\\x00user\\x00%s\\x00\\x00" "$user" >&3
    [ "$(head -c 1 <&3)" = R ]
}

# A server that requires a password counts as up. A server that is loading its data does not.
redis() {
    host_and_port 6379 "$address"
    local line
    exec 3<>"/dev/tcp/$host/$port"
    printf 'PING\r\n' >&3
    IFS= read -r line <&3
    case "$line" in +PONG*|-NOAUTH*) ;; *) return 1 ;; esac
}

# Sends an ApiVersions request, version 0, correlation id 1. The answer repeats the id after its length.
kafka() {
    local one answer
    for one in ${address//,/ }; do
        host_and_port 9092 "$one"
        exec 3<>"/dev/tcp/$host/$port" || continue
        printf '\x00\x00\x00\x0e\x00\x12\x00\x00\x00\x00\x00\x01\x00\x04test' >&3
        answer=$(head -c 8 <&3 | od -An -v -tx1 | tr -d ' \n')
        [ "${answer#????????}" = 00000001 ] && return 0
    done
    return 1
}

"$service"
