# shellcheck shell=bash
# One Kafka broker that is its own controller. Its data folder survives stop and start.
# shellcheck disable=SC2154 # parts and base are set by scripts/services

# Seconds. An idle machine needs three, a busy one has needed thirty.
KAFKA_START_SECONDS=120
# Any id works, because no other broker joins. A fixed id saves a call of the id generator.
KAFKA_CLUSTER=MkU3OEVBNTcwNTJENDM2Qg

kafka_version() { sed -n 's|.*<kafka.version>\(.*\)</kafka.version>.*|\1|p' "$parts/kafka/pom.xml"; }
kafka_programs() { echo "$base/kafka-$(kafka_version)"; }
kafka_libs() { echo "$(kafka_programs)/libs"; }

# An archive of loaded classes fits only one build of Java. Without it, the broker takes twice as long to start.
kafka_classes() { echo "$(kafka_programs)/classes-$(java -version 2>&1 | cksum | cut -d' ' -f1).jsa"; }

# kafka_get FOLDER: installs the broker and its class archive. Other scripts wait for the lock and then reuse both.
kafka_get() {
    mkdir -p "$base"
    exec 9>"$base/lock"
    flock 9
    kafka_fetch "$1"
    kafka_train "$1"
    exec 9>&-
}

# kafka_fetch FOLDER: fetches the broker's jars, once for each version. They appear complete or not at all.
kafka_fetch() {
    local fetched=$1/fetched
    [ ! -d "$(kafka_libs)" ] || return 0
    say "fetching Apache Kafka $(kafka_version) from the Maven repository (once, about 45 MB)"
    mkdir "$fetched"
    if ! mvn -B -ntp -q -f "$parts/kafka/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$fetched/libs" >"$fetched/log" 2>&1; then
        last_lines "$fetched/log"
        fail "Maven could not fetch Apache Kafka. Check its settings, start Docker, or give a broker's address in ONRUSH_TEST_KAFKA"
    fi
    rm "$fetched/log"
    mv -T "$fetched" "$(kafka_programs)"
}

# kafka_train FOLDER: runs the broker once, and keeps its class archive and a formatted data folder.
kafka_train() {
    local classes
    classes=$(kafka_classes)
    [ ! -e "$classes" ] || return 0
    say "starting Kafka once to make its later starts quick"
    kafka_create "$1"
    kafka_first "$1"
    if [ ! -d "$(kafka_programs)/formatted" ]; then
        cp -r "$1/kafka/data" "$1/formatted"
        mv -T "$1/formatted" "$(kafka_programs)/formatted"
    fi
    kafka_start "$1/kafka.state" "-XX:ArchiveClassesAtExit=$1/classes"
    kafka_stop "$1/kafka.state" orderly
    # Some builds of Java write no archive. Then the broker starts without one, and the next `up` tries again.
    [ ! -e "$1/classes" ] || mv "$1/classes" "$classes"
    kafka_remove "$1/kafka.state"
    rm "$1/kafka.state"
}

kafka_create() {
    local ports port controller_port
    ports=$(free_ports 2)
    port=${ports%%$'\n'*}
    controller_port=${ports##*$'\n'}
    cat >"$1/kafka.state" <<END
kafka_by=packages
kafka_address=127.0.0.1:$port
kafka_port=$port
kafka_controller_port=$controller_port
kafka_home=$1/kafka
kafka_pid_file=$1/kafka/pid
kafka_log=$1/kafka/log
END
}

kafka_first() {
    local home port controller_port
    home=$1/kafka
    port=$(field "$1/kafka.state" kafka_port)
    controller_port=$(field "$1/kafka.state" kafka_controller_port)
    mkdir -p "$home"
    cat "$parts/kafka/server.properties" - >"$home/server.properties" <<END
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller_port
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.quorum.voters=1@127.0.0.1:$controller_port
log.dirs=$home/data
END
    if [ -d "$(kafka_programs)/formatted" ]; then
        cp -r "$(kafka_programs)/formatted" "$home/data"
        return 0
    fi
    java "-Dlog4j2.configurationFile=$parts/kafka/log4j2.properties" -cp "$(kafka_libs)/*" \
        kafka.tools.StorageTool format -t "$KAFKA_CLUSTER" -c "$home/server.properties" >"$home/format.log" 2>&1 \
        || { last_lines "$home/format.log"; return 1; }
}

# The ports are open long before the broker answers requests. It logs this line when it does.
kafka_up() { grep -q 'Kafka Server started' "$1/log" 2>/dev/null; }
kafka_settled() { kafka_up "$1" || ! kill -0 "$2" 2>/dev/null; }

# kafka_start STATE [OPTION]: starts the broker with an option for Java. Default: the class archive.
kafka_start() {
    local home pid option=${2:--XX:SharedArchiveFile=$(kafka_classes)}
    home=$(field "$1" kafka_home)
    [ ! -e "$home/log" ] || mv "$home/log" "$home/log.before"
    setsid java -Xms256m -Xmx512m "$option" "-Dlog4j2.configurationFile=$parts/kafka/log4j2.properties" -cp "$(kafka_libs)/*" \
        kafka.Kafka "$home/server.properties" </dev/null >"$home/log" 2>&1 &
    pid=$!
    echo "$pid" >"$home/pid"
    if eventually "$KAFKA_START_SECONDS" kafka_settled "$home" "$pid" && kafka_up "$home"; then return 0; fi
    last_lines "$home/log"
    return 1
}

kafka_stop() {
    local mode=$2
    [ "$mode" = orderly ] || mode="kill"
    end_process "$(pid_in "$(field "$1" kafka_pid_file)")" "$(field "$1" kafka_home)/server.properties" "$mode"
}

kafka_remove() { rm -rf "$(field "$1" kafka_home)"; }
