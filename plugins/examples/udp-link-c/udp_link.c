/* A network cable between two VMs, here or elsewhere: an Ethernet frame is a UDP
 * datagram. One VM has {"local": "192.0.2.1:7000", "peer": "192.0.2.2:7000"}, the other
 * the same changed round. Nothing is encrypted, and nobody asked who he is.
 *
 * A network backend says what it can (describe), carries frames (send, receive),
 * remembers what its frontend waits for (set_interest), and tells it when that has
 * come (ready). It never waits by itself. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include <shem/ext/events.h>
#include <shem/ext/net-backend.h>

#define MTU 1500
#define MAX_FRAME (MTU + 14) /* and the Ethernet header */

typedef struct {
  shem_device_t device; /* what the host points to */
  const shem_host_t *host;
  const shem_host_events_t *events; /* its side of two extensions */
  const shem_host_net_t *net;
  int socket;
} link_t;

static link_t *of(shem_device_t *device) { return device->plugin_data; }

/* What is not said is 0: no offloads, no header, an address that the host makes. */
static int32_t describe(shem_device_t *device, shem_net_info_t *info) {
  info->queue_pairs = 1;
  info->mtu = MTU;
  info->max_frame = MAX_FRAME;
  return (void)device, 0;
}

/* The guest's driver comes and goes. */
static int32_t start(shem_device_t *device, const shem_net_setup_t *setup) {
  return (void)device, (void)setup, 0;
}
static void stop(shem_device_t *device) { (void)device; }

/* What the frontend waits for. Without interest nothing wakes the event loop. */
static int32_t set_interest(shem_device_t *device, uint16_t queue, uint32_t directions) {
  uint32_t events = (directions & SHEM_NET_RECEIVE ? SHEM_EVENT_READ : 0) |
                    (directions & SHEM_NET_SEND ? SHEM_EVENT_WRITE : 0);
  (void)queue;
  return of(device)->events->modify(of(device)->host, of(device)->socket, events, 0);
}

/* The event loop has seen what set_interest asked for: the frontend may try. */
static int32_t on_event(shem_device_t *device, int32_t fd, uint32_t events, uint64_t token) {
  (void)token;
  uint32_t directions = (events & SHEM_EVENT_READ ? SHEM_NET_RECEIVE : 0) |
                        (events & SHEM_EVENT_WRITE ? SHEM_NET_SEND : 0);
  int error; /* nobody listens at the peer's, say: having read it ends it */
  socklen_t size = sizeof(error);
  if (events & SHEM_EVENT_HANG_UP) getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  return of(device)->net->ready(of(device)->host, 0, directions);
}

/* From guest memory without a copy. Errors lose the frame, as on any cable. */
static int32_t send_frame(shem_device_t *device, uint16_t queue, const shem_iovec_t *pieces,
                          size_t count) {
  size_t len = 0;
  for (size_t i = 0; i < count; i++) len += pieces[i].len;
  if (len > MAX_FRAME) return (void)queue, -EMSGSIZE;
  ssize_t sent = writev(of(device)->socket, (const struct iovec *)pieces, (int)count);
  return sent < 0 && errno == EAGAIN ? -EAGAIN : 0; /* the frontend keeps it */
}

/* An error that an earlier frame met is told here too, and is no frame. */
static int32_t receive(shem_device_t *device, uint16_t queue, const shem_iovec_t *pieces,
                       size_t count) {
  struct msghdr message = {.msg_iov = (struct iovec *)pieces, .msg_iovlen = count};
  ssize_t got = recvmsg(of(device)->socket, &message, 0);
  if (got < 0) return (void)queue, -EAGAIN;
  int whole = got > 0 && got <= MAX_FRAME && !(message.msg_flags & MSG_TRUNC);
  return whole ? (int32_t)got : -EMSGSIZE;
}

static const shem_device_events_t events = {sizeof(events), 0, on_event, NULL};
static const shem_net_backend_t net = {
    .struct_size = sizeof(net), .describe = describe, .start = start, .stop = stop,
    .set_interest = set_interest, .send = send_frame, .receive = receive};

static const void *get_extension(shem_device_t *device, shem_str_t id) {
  if (shem_str_is(id, SHEM_EXT_EVENTS)) return (void)device, &events;
  return shem_str_is(id, SHEM_EXT_NET_BACKEND) ? &net : NULL;
}

static void destroy(shem_device_t *device) {
  if (of(device)->socket >= 0) close(of(device)->socket);
  free(of(device));
}

/* Reads an address. The configuration fits the schema below and has no spaces. */
static int address(shem_str_t config, const char *key, struct sockaddr_in *to) {
  char text[256], ip[16], end;
  unsigned port;
  snprintf(text, sizeof(text), "%.*s", (int)config.len, config.data);
  const char *found = strstr(text, key);
  if (!found || sscanf(found + strlen(key), "%15[0-9.]:%5u%c", ip, &port, &end) != 3) return 0;
  *to = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  return end == '"' && port < 65536 && inet_pton(AF_INET, ip, &to->sin_addr) == 1;
}

/* Once the guest runs nothing can be opened any more. */
static int32_t create(const shem_host_t *host, shem_str_t id, shem_str_t config,
                      shem_device_t **device) {
  struct sockaddr_in local, peer;
  const char *wrong = NULL;
  link_t *link = calloc(1, sizeof(*link));
  if (!link) return (void)id, -ENOMEM;
  link->device = (shem_device_t){sizeof(shem_device_t), 0, link, get_extension, destroy};
  link->host = host;
  link->events = host->get_extension(host, shem_str(SHEM_EXT_EVENTS));
  link->net = host->get_extension(host, shem_str(SHEM_EXT_NET_BACKEND));
  link->socket = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (!address(config, "\"local\":\"", &local) || !address(config, "\"peer\":\"", &peer))
    wrong = "local and peer: write addresses as 192.0.2.1:7000";
  else if (!link->events || !link->net)
    wrong = "this host has no networks";
  else if (bind(link->socket, (struct sockaddr *)&local, sizeof(local)))
    wrong = "local: this address cannot be had: not this host's, or taken";
  else if (connect(link->socket, (struct sockaddr *)&peer, sizeof(peer)) ||
           link->events->add(host, link->socket, 0, 0))
    wrong = "peer: there is no way to this address";
  *device = &link->device;
  if (!wrong) return 0;
  host->set_error(host, shem_str(wrong)); /* what the user reads */
  destroy(&link->device);
  return -EINVAL;
}

#define ADDRESS(example) "{\"type\": \"string\", \"examples\": [\"" example "\"]}"
static const shem_driver_t driver = {
    sizeof(driver), 0, SHEM_STR("udp-link"), SHEM_STR("A cable to one other VM, over UDP"),
    SHEM_STR("{\"required\": [\"local\", \"peer\"], \"additionalProperties\": false, "
             "\"properties\": {\"local\": " ADDRESS("127.0.0.1:0") ", \"peer\": "
             ADDRESS("127.0.0.1:9") "}}"), create};
static const shem_driver_t *const drivers[] = {&driver};
static const shem_str_t syscalls[] = {SHEM_STR("recvmsg"), SHEM_STR("getsockopt")};
const shem_plugin_entry_t shem_plugin_entry = {
    sizeof(shem_plugin_entry_t), SHEM_ABI_MAJOR, SHEM_ABI_MINOR, SHEM_STR("udp-link"),
    SHEM_STR("1.0.0"), SHEM_STR("Cables between VMs, over UDP"), syscalls, 2, /* on [loop] */
    .drivers = drivers, .driver_count = 1};
