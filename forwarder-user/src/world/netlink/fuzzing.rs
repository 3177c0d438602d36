//! Any bytes as what the kernel sends.

use netlink_packet_core::{NetlinkBuffer, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;

use super::events::{Event, decode_datagram};
use super::mirror::{Noted, fill_in_local_peers};
use super::{decode, rules};
use crate::world::kernel::{Kernel, LinkKind};

pub(crate) fn run(input: &[u8]) {
    let mut events = Vec::new();
    decode_datagram(input, &mut events);
    // A message has a header of 16 bytes, and what is cut short is told once.
    assert!(events.len() <= input.len() / 16 + 1);
    is_read_message_by_message(input, &events);

    let mut kernel = Kernel::default();
    for event in events {
        is_absorbed(&mut kernel, event);
    }
    for bytes in whole_messages(input) {
        is_read_in_a_dump(bytes);
    }
}

/// The messages that lie whole in a datagram, each with its padding.
fn whole_messages(mut datagram: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    while let Ok(message) = NetlinkBuffer::new_checked(datagram) {
        let length = message.length() as usize;
        let (message, rest) = datagram.split_at(length.next_multiple_of(4).min(datagram.len()));
        messages.push(message);
        datagram = rest;
    }
    messages
}

/// What stands before or behind a message does not change what it says.
fn is_read_message_by_message(datagram: &[u8], events: &[Event]) {
    let mut one_by_one = Vec::new();
    let messages = whole_messages(datagram);
    for message in &messages {
        decode_datagram(message, &mut one_by_one);
    }
    if messages.iter().map(|message| message.len()).sum::<usize>() < datagram.len() {
        one_by_one.push(Event::Overrun);
    }
    assert_eq!(one_by_one, events);
}

fn is_absorbed(kernel: &mut Kernel, event: Event) {
    Noted::default().note(kernel, event.clone());
    fill_in_local_peers(kernel);
    assert_consistent(kernel);

    let before = kernel.clone();
    let mut again = Noted::default();
    again.note(kernel, event.clone());
    assert!(
        !again.changed,
        "the second time {event:?} changes something"
    );
    assert!(!fill_in_local_peers(kernel), "{event:?}");
    assert_eq!(*kernel, before, "{event:?}");
}

fn assert_consistent(kernel: &Kernel) {
    for (ifindex, link) in &kernel.links {
        assert_eq!(link.ifindex, *ifindex);
        if let LinkKind::Veth(peer) = link.kind
            && peer.netns_id.is_none()
        {
            let known = kernel.links.get(&peer.ifindex).map(|peer| peer.mac);
            assert_eq!(peer.mac, known, "the peer of {ifindex}");
        }
    }
    for (ifindex, addresses) in &kernel.addresses {
        assert!(!addresses.is_empty(), "{ifindex}");
        assert!(addresses.is_sorted_by(|a, b| a < b), "{addresses:?}");
    }
    for (key, neighbour) in &kernel.neighbours {
        assert!(decode::worth_keeping(neighbour), "{key:?}: {neighbour:?}");
        assert!(key.0 != 0 && !key.1.is_multicast(), "{key:?}");
    }
}

/// What only full reads make use of.
fn is_read_in_a_dump(bytes: &[u8]) {
    let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) else {
        return;
    };
    let NetlinkPayload::InnerMessage(message) = message.payload else {
        return;
    };
    match message {
        RouteNetlinkMessage::NewRoute(message) => {
            for route in decode::routes(&message) {
                assert!(decode::in_main_table(&message));
                assert!(route.destination.prefix_len() <= message.header.destination_prefix_length);
            }
        }
        RouteNetlinkMessage::NewRule(message) => {
            // Compared as they are: a rule that is not everywhere must not look like no rule.
            assert!(rules::rule(&message).is_none_or(|rule| !rule.text.is_empty()));
        }
        RouteNetlinkMessage::NewQueueDiscipline(message) => {
            if let Some((ifindex, _)) = decode::qdisc(&message) {
                assert_eq!(Ok(ifindex), u32::try_from(message.header.index));
            }
        }
        RouteNetlinkMessage::NewTrafficFilter(message) => {
            // A filter of no kind limits nothing that anybody could name.
            assert!(decode::limiting_filter(&message).is_none() || !message.attributes.is_empty());
        }
        _ => {}
    }
}
