//! [`List`] by example, and under readers.

use crate::list::List;
use crate::room::Room;
use std::ptr;
use std::sync::Arc;

#[test]
fn items_stay_where_they_are_and_are_dropped_once() {
    let dropped = Arc::new(());
    let mut list = List::new();
    let mut bytes = 0;
    for i in 0..100 {
        let (index, grown) = list.push(Box::new((i, Arc::clone(&dropped))).into());
        assert_eq!(index, i);
        bytes += grown;
    }
    assert_eq!((list.len(), bytes), (100, (4 + 8 + 16 + 32 + 64 + 128) * 8));
    let third: *const _ = list.get(3);
    list.push(Box::new((100, Arc::clone(&dropped))).into());
    assert!(ptr::eq(third, list.get(3)) && (0..=100).all(|i| list.get(i).0 == i));
    assert_eq!(list.drain().len(), 101);
    assert_eq!((list.len(), Arc::strong_count(&dropped)), (0, 1));
    list.push(Box::new((7, Arc::clone(&dropped))).into());
    assert_eq!(list.get(0).0, 7);
    drop(list);
    assert_eq!(Arc::strong_count(&dropped), 1);
}

#[test]
fn items_of_regions_and_boxes_come_out_as_they_went_in() {
    let dropped = Arc::new(());
    let make = || (Arc::clone(&dropped), [0_u8; 900_000]);
    let mut list = List::new();
    let (one, other) = (Room::many(make), Room::many(make));
    for (a, b) in one.into_iter().zip(other) {
        list.push(a);
        list.push(Box::new(make()).into());
        list.push(b);
    }
    let mut rooms = list.drain();
    drop(list);
    assert_eq!((rooms.len(), Arc::strong_count(&dropped)), (6, 7));
    rooms.iter_mut().enumerate().for_each(|(i, room)| room.1[0] = i as u8);
    assert!(rooms.iter().enumerate().all(|(i, room)| room.1[0] == i as u8));
    drop(rooms);
    assert_eq!(Arc::strong_count(&dropped), 1);
}

#[test]
#[should_panic = "item 1 of 1"]
fn what_is_not_there_is_not_given() {
    let list = List::new();
    list.push(Box::new(7).into());
    list.get(1);
}

#[test]
fn readers_find_every_item_while_one_appends() {
    let items = if cfg!(miri) { 50 } else { 20_000 };
    let list = List::new();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut seen = 0;
                while seen < items {
                    let len = list.len();
                    assert!((seen..len).all(|i| *list.get(i) == i) && (len == 0 || *list.get(len / 2) == len / 2));
                    seen = len;
                    std::thread::yield_now();
                }
            });
        }
        (0..items).for_each(|i| assert_eq!(list.push(Box::new(i).into()).0, i));
    });
}
