//! One thread, one epoll and one heap of due times. Timers of async runtimes step
//! in milliseconds; `epoll_pwait2` without timer slack is exact to microseconds.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    num::NonZeroU64,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, CreateFlags, EventData, EventFlags},
    },
    net::{AddressFamily, SocketFlags, SocketType, connect, socket_with},
};

use crate::connection::{Connection, Side, State};

const EVENTS: usize = 256;
/// Events of connections carry their number and the side; these are the others'.
const LISTENERS: u64 = 1 << 62;
const END: u64 = 1 << 63;

#[derive(Clone, Copy)]
pub struct Delay {
    pub one_way: Duration,
    /// The last part of a wait is spent awake: to be woken takes time, and not always the same.
    pub spin: Duration,
}

pub struct Proxy {
    epoll: OwnedFd,
    delay: Delay,
    routes: Vec<(TcpListener, SocketAddr)>,
    connections: HashMap<u64, Connection>,
    opened: u64,
    due: BinaryHeap<Reverse<(Instant, u64, Side)>>,
    scratch: Vec<u8>,
}

impl Proxy {
    /// Connections to each listener go to the address beside it.
    pub fn new(delay: Delay, routes: Vec<(TcpListener, SocketAddr)>) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        for (number, (listener, _)) in routes.iter().enumerate() {
            listener.set_nonblocking(true)?;
            let data = EventData::new_u64(LISTENERS + number as u64);
            epoll::add(&epoll, listener, data, EventFlags::IN)?;
        }
        Ok(Self {
            epoll,
            delay,
            routes,
            connections: HashMap::new(),
            opened: 0,
            due: BinaryHeap::new(),
            scratch: vec![0; 256 * 1024],
        })
    }

    /// `run` returns when this descriptor is readable or closed. Bytes in it count as that, too.
    pub fn ends_with(&self, descriptor: BorrowedFd) -> rustix::io::Result<()> {
        epoll::add(
            &self.epoll,
            descriptor,
            EventData::new_u64(END),
            EventFlags::IN,
        )
    }

    /// Pass on until the end.
    pub fn run(mut self) -> io::Result<()> {
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            let wait = self.pass_on();
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), wait.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                let (data, flags) = (event.data.u64(), event.flags);
                if data == END {
                    return Ok(());
                } else if data >= LISTENERS {
                    self.accept((data - LISTENERS) as usize)?;
                } else {
                    self.event(data >> 1, Side::of(data & 1), flags);
                }
            }
        }
    }

    /// Pass on what is due; how long nothing else is.
    fn pass_on(&mut self) -> Option<Timespec> {
        loop {
            let Reverse((due, number, to)) = *self.due.peek()?;
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.due.pop();
                self.flush(number, to);
            } else {
                let sleep = left.saturating_sub(self.delay.spin);
                return Timespec::try_from(sleep).ok();
            }
        }
    }

    fn accept(&mut self, route: usize) -> io::Result<()> {
        let (listener, to) = &self.routes[route];
        loop {
            let client = match listener.accept() {
                Ok((client, _)) => client,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            client.set_nonblocking(true)?;
            client.set_nodelay(true)?;
            // One that cannot be reached is dropped, as it would be without us.
            let Ok(server) = dial(*to) else { continue };
            // A handshake of TCP would have taken a round trip before the first bytes.
            let ready = Instant::now() + 2 * self.delay.one_way;
            let number = self.opened;
            self.opened += 1;
            let mut connection = Connection::new(number, client, server, ready);
            if connection.register(&self.epoll).is_ok() {
                self.connections.insert(number, connection);
            }
        }
    }

    fn event(&mut self, number: u64, side: Side, flags: EventFlags) {
        if flags.contains(EventFlags::OUT) {
            self.flush(number, side);
        }
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            let (state, first) = connection.read(side, self.delay.one_way, &mut self.scratch);
            if let Some(due) = first {
                self.due.push(Reverse((due, number, side.other())));
            }
            self.keep(number, state);
        }
    }

    fn flush(&mut self, number: u64, to: Side) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        let (state, next) = connection.write(to, Instant::now());
        if let Some(due) = next {
            self.due.push(Reverse((due, number, to)));
        }
        self.keep(number, state);
    }

    /// Drop a connection that is over or broken; else wait for what it waits for.
    fn keep(&mut self, number: u64, state: State) {
        let Some(connection) = self.connections.get_mut(&number) else {
            return;
        };
        if state == State::Over || connection.register(&self.epoll).is_err() {
            self.connections.remove(&number);
        }
    }
}

/// Begin to connect; what is written meanwhile waits.
fn dial(to: SocketAddr) -> io::Result<TcpStream> {
    let family = match to {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    match connect(socket.as_fd(), &to) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(stream)
}
