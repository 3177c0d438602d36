#!/bin/sh
# A cluster made by plain `ip` commands, with agents started as an administrator would start them. Prints what
# `underpass status` tells of the first node, and ends with 0 where everything could be taken out again.
#
# To be run by `unshare --mount --pid --fork --kill-child`, in an empty directory and with underpass on the PATH:
# the namespaces, the pins and the processes go with this script, however it ends.
set -eu

mkdir -p /run/netns
mount -t tmpfs none /run/netns
mount -t bpf none /sys/fs/bpf

# Tries a command for twenty seconds.
try() {
    left=200
    until "$@"; do
        left=$((left - 1))
        if [ "$left" -eq 0 ]; then
            echo "in vain: $*" >&2
            cat ./*.log >&2
            exit 1
        fi
        sleep 0.1
    done
}

ip netns add switch
ip -n switch link add br0 type bridge forward_delay 0
ip -n switch link set br0 up
for n in 1 2; do
    ip netns add worker$n
    ip -n switch link add worker$n type veth peer name eth0 netns worker$n
    ip -n switch link set worker$n master br0 up
    ip -n worker$n addr add 192.168.1.$n/24 dev eth0
    ip -n worker$n link set eth0 up
    ip -n worker$n link add br-pods type bridge forward_delay 0
    ip -n worker$n addr add 10.1.$n.1/24 dev br-pods
    ip -n worker$n link set br-pods up
    nsenter --net=/run/netns/worker$n sysctl -qw net.ipv4.ip_forward=1

    ip netns add pod$n
    ip -n worker$n link add pod$n type veth peer name eth0 netns pod$n
    ip -n worker$n link set pod$n master br-pods up
    ip -n pod$n addr add 10.1.$n.2/24 dev eth0
    ip -n pod$n link set eth0 up
    ip -n pod$n route add default via 10.1.$n.1
done
ip -n worker1 route add 10.1.2.0/24 via 192.168.1.2
ip -n worker2 route add 10.1.1.0/24 via 192.168.1.1

cat > nodes.yaml <<'NODES'
apiVersion: v1
kind: List
items:
- kind: Node
  metadata: {name: worker1}
  spec: {podCIDR: 10.1.1.0/24}
  status: {addresses: [{type: InternalIP, address: 192.168.1.1}]}
- kind: Node
  metadata: {name: worker2}
  spec: {podCIDR: 10.1.2.0/24}
  status: {addresses: [{type: InternalIP, address: 192.168.1.2}]}
NODES

agents=
for node in worker1 worker2; do
    nsenter --net=/run/netns/$node underpass agent --node-name $node --nodes-file nodes.yaml --iface eth0 \
        --bpffs /sys/fs/bpf/$node > $node.log 2>&1 &
    agents="$agents $!"
done
knows_its_peer() {
    underpass peers --bpffs /sys/fs/bpf/"$1" -o json 2>/dev/null | grep -q '"state": "ready"'
}
try knows_its_peer worker1
try knows_its_peer worker2

try nsenter --net=/run/netns/pod1 ping -q -c 1 -W 1 10.1.2.2 > ping.txt
nsenter --net=/run/netns/pod1 ping -q -c 20 -i 0.02 10.1.2.2 > ping.txt
nsenter --net=/run/netns/worker1 underpass status --bpffs /sys/fs/bpf/worker1 -o json

# shellcheck disable=SC2086 # one word each
kill $agents
# shellcheck disable=SC2086
wait $agents
for node in worker1 worker2; do
    nsenter --net=/run/netns/$node underpass detach --bpffs /sys/fs/bpf/$node >&2
    [ ! -e /sys/fs/bpf/$node ]
done
