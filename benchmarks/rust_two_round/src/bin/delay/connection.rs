//! Both sockets of a connection, and what waits for its time in each direction.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::event::epoll::{self, EventData, EventFlags};

/// No more is read while so much waits: far above what fits into a delay, and yet a bound.
const MOST_BYTES: usize = 8 * 1024 * 1024;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Client = 0,
    Server = 1,
}

impl Side {
    pub fn of(bit: u64) -> Self {
        if bit == 0 { Self::Client } else { Self::Server }
    }

    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

#[derive(PartialEq, Eq)]
pub enum State {
    Open,
    Over,
}

/// One socket, and what is to be written to it.
struct End {
    stream: TcpStream,
    /// Chunks by the time at which they are due, which never falls. An empty one is the end.
    waiting: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    /// How much of the first chunk is written.
    written: usize,
    /// The first chunk is due and the socket takes no more.
    full: bool,
    read_ended: bool,
    write_ended: bool,
    watched: EventFlags,
}

pub struct Connection {
    number: u64,
    ends: [End; 2],
    /// Nothing is there before.
    ready: Instant,
}

impl Connection {
    pub fn new(number: u64, client: TcpStream, server: TcpStream, ready: Instant) -> Self {
        Self {
            number,
            ends: [client, server].map(|stream| End {
                stream,
                waiting: VecDeque::new(),
                bytes: 0,
                written: 0,
                full: false,
                read_ended: false,
                write_ended: false,
                watched: EventFlags::empty(),
            }),
            ready,
        }
    }

    /// Have epoll watch for exactly what each socket waits for.
    pub fn register(&mut self, epoll: &OwnedFd) -> rustix::io::Result<()> {
        for side in [Side::Client, Side::Server] {
            let room = self.ends[side.other() as usize].bytes < MOST_BYTES;
            let end = &mut self.ends[side as usize];
            let mut wanted = EventFlags::empty();
            wanted.set(EventFlags::IN, room && !end.read_ended);
            wanted.set(EventFlags::OUT, end.full);
            if wanted == end.watched {
                continue;
            }
            let data = EventData::new_u64(self.number << 1 | side as u64);
            if end.watched.is_empty() {
                epoll::add(epoll, &end.stream, data, wanted)?;
            } else if wanted.is_empty() {
                // Else a socket that hung up would wake us without end.
                epoll::delete(epoll, &end.stream)?;
            } else {
                epoll::modify(epoll, &end.stream, data, wanted)?;
            }
            end.watched = wanted;
        }
        Ok(())
    }

    /// Read what is there from one side. The time, if what was read is the first to wait for the other.
    pub fn read(
        &mut self,
        from: Side,
        one_way: Duration,
        scratch: &mut [u8],
    ) -> (State, Option<Instant>) {
        let end = &mut self.ends[from as usize];
        if end.read_ended {
            return (State::Open, None);
        }
        let read = match end.stream.read(scratch) {
            Ok(read) => read,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                return (State::Open, None);
            }
            Err(_) => return (State::Over, None),
        };
        end.read_ended = read == 0;
        let due = Instant::now().max(self.ready) + one_way;
        let to = &mut self.ends[from.other() as usize];
        to.waiting.push_back((due, scratch[..read].to_vec()));
        to.bytes += read;
        (State::Open, (to.waiting.len() == 1).then_some(due))
    }

    /// Write to one side what is due by now. When the next chunk is, if there is one and no room is waited for.
    pub fn write(&mut self, to: Side, now: Instant) -> (State, Option<Instant>) {
        let end = &mut self.ends[to as usize];
        end.full = false;
        while let Some((due, chunk)) = end.waiting.front() {
            if *due > now {
                return (State::Open, Some(*due));
            }
            if chunk.is_empty() {
                end.write_ended = true;
                if end.stream.shutdown(Shutdown::Write).is_err() {
                    return (State::Over, None);
                }
            } else {
                match end.stream.write(&chunk[end.written..]) {
                    Ok(written) => {
                        end.written += written;
                        end.bytes -= written;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        end.full = true;
                        return (State::Open, None);
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(_) => return (State::Over, None),
                }
            }
            if end.written == chunk.len() {
                end.waiting.pop_front();
                end.written = 0;
            }
        }
        let over = self.ends.iter().all(|end| end.write_ended);
        (if over { State::Over } else { State::Open }, None)
    }
}
