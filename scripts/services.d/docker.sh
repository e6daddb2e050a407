# shellcheck shell=bash
# Runs the services as containers by Docker Compose, with one project for each state folder.
# shellcheck disable=SC2154 # parts and base are set by scripts/services

docker_answers() { have docker && docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1; }

# compose STATE ARGUMENT…: runs Docker Compose on the project of the state.
compose() {
    local state=$1
    shift
    ONRUSH_PORT_POSTGRES=$(field "$state" postgres_port) ONRUSH_PORT_REDIS=$(field "$state" redis_port) ONRUSH_PORT_KAFKA=$(field "$state" kafka_port) \
        docker compose --project-name "$(basename "$(dirname "$state")")" --file "$parts/docker.compose.yaml" "$@" >&2
}

# docker_create FOLDER SERVICE: writes the future address of the service.
docker_create() {
    local port address
    port=$(free_ports 1)
    case "$2" in
        postgres) address=postgres://postgres@127.0.0.1:$port/postgres ;;
        redis) address=redis://127.0.0.1:$port ;;
        kafka) address=127.0.0.1:$port ;;
    esac
    printf '%s\n' "$2_by=docker" "$2_address=$address" "$2_port=$port" >"$1/$2.state"
}

# docker_start STATE SERVICE…: starts services. A stopped one keeps its data.
docker_start() {
    local state=$1 service address
    shift
    compose "$state" up --detach --wait --quiet-pull "$@" || { compose "$state" logs --tail 20 "$@"; return 1; }
    # A container may run on another machine, where its port is not reachable from here.
    for service in "$@"; do
        address=$(field "$state" "${service}_address")
        eventually 10 answers "$service" "$address" && continue
        say "$service runs in a container but does not answer at $address; does the Docker engine run on this machine?"
        return 1
    done
}

# docker_stop STATE SERVICE orderly|immediate|kill: stops a service.
docker_stop() {
    case "$3" in
        orderly) compose "$1" stop --timeout 60 "$2" ;;
        immediate)
            # SIGQUIT is PostgreSQL's immediate shutdown; the other services have none. `kill` does not wait for the end, so `stop` follows.
            # `stop` does not affect a server that is already ending.
            if [ "$2" = postgres ]; then compose "$1" kill --signal SIGQUIT "$2" && compose "$1" stop --timeout 10 "$2"; else compose "$1" kill "$2"; fi
            ;;
        kill) compose "$1" kill "$2" ;;
    esac
}

docker_remove() { compose "$1" down --volumes --timeout 1; }
