# shellcheck shell=bash
# Without a Docker engine: finds the programs of the services, or installs Debian packages.
# shellcheck disable=SC2154 # parts and base are set by scripts/services

OLDEST_POSTGRES=15
OLDEST_REDIS=7
OLDEST_JAVA=17

# postgres_programs: prints the folder of initdb, postgres and pg_ctl: of version 15 if installed, else of the newest.
postgres_programs() {
    local folder version
    # shellcheck disable=SC2012 # these names are plain
    for folder in "/usr/lib/postgresql/$OLDEST_POSTGRES/bin" $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -rV) "$(dirname "$(command -v initdb || echo /)")"; do
        [ -x "$folder/initdb" ] || continue
        version=$("$folder/postgres" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
        [ "$version" -ge "$OLDEST_POSTGRES" ] || continue
        echo "$folder"
        return 0
    done
    return 1
}

redis_is_new_enough() {
    have redis-server && [ "$(redis-server --version | sed 's/.*v=\([0-9]*\).*/\1/')" -ge "$OLDEST_REDIS" ]
}

java_is_new_enough() {
    have java && [ "$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p')" -ge "$OLDEST_JAVA" ]
}

# missing_packages SERVICE…: prints the Debian packages that are needed but not installed.
missing_packages() {
    local service
    for service in "$@"; do
        case "$service" in
            postgres) postgres_programs >/dev/null || echo postgresql ;;
            redis) redis_is_new_enough || echo redis-server ;;
            kafka)
                java_is_new_enough || echo openjdk-17-jre-headless
                [ -d "$(kafka_libs)" ] || have mvn || echo maven
                ;;
        esac
    done
}

# get_programs FOLDER SERVICE…: installs all programs of the services, or fails with advice.
get_programs() {
    local folder=$1 packages service
    shift
    packages=$(missing_packages "$@" | tr '\n' ' ')
    if [ -n "$packages" ]; then
        local advice="Start Docker, or install: ${packages% }. Or give the addresses of your own servers in ONRUSH_TEST_POSTGRES, ONRUSH_TEST_REDIS, ONRUSH_TEST_KAFKA"
        have apt-get || fail "no Docker engine answers, and this system has no apt-get. $advice"
        say "installing Debian packages: ${packages% }"
        # shellcheck disable=SC2086 # a list of names
        if [ "$(id -u)" = 0 ]; then
            bash "$parts/install.sh" $packages >&2
        elif have sudo; then
            sudo bash "$parts/install.sh" $packages >&2
        else
            fail "no Docker engine answers, and installing needs root or sudo. $advice"
        fi || fail "the packages could not be installed. $advice"
        packages=$(missing_packages "$@" | tr '\n' ' ')
        [ -z "$packages" ] || fail "this system's packages are too old: PostgreSQL $OLDEST_POSTGRES, Redis $OLDEST_REDIS and Java $OLDEST_JAVA are needed. $advice"
    fi
    for service in "$@"; do
        [ "$service" != kafka ] || kafka_get "$folder"
    done
}
