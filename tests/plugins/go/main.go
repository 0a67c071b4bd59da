// A plugin for smtpmux, written against its published interface, that behaves or misbehaves as its file name says.
//
// Go's own values are sent and received here by Go's own libraries: what the host in Python writes is held against them.
package main

import (
	"errors"
	"fmt"
	"log"
	"net"
	"net/rpc"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-plugin"
)

// Downstream is where smtpmux may send a message: the fields of its `types.Downstream`.
type Downstream struct {
	Addr string
	User string
	Pass string
}

// first is the standard output that the host reads the handshake from.
var first = os.Stdout

// selector orders downstreams, in the manner of its mode.
type selector struct {
	mode  string
	asked int
	busy  int32
}

// Select is what the host calls `Plugin.Select`.
func (s *selector) Select(downstreams []Downstream, answer *[]Downstream) error {
	s.asked++
	for _, each := range downstreams {
		if each.Pass != "" {
			return errors.New("a password was sent")
		}
	}
	switch s.mode {
	case "hang":
		wait()
	case "die":
		os.Exit(3)
	case "panic":
		panic("on purpose")
	case "fail":
		return errors.New("no downstreams\r\ntoday \xff")
	case "lie":
		*answer = []Downstream{{Addr: "elsewhere.example:25"}}
		return nil
	case "empty":
		*answer = []Downstream{}
		return nil
	case "first":
		*answer = downstreams[:1]
		return nil
	case "twice":
		*answer = append(downstreams, downstreams...)
		return nil
	case "huge":
		*answer = make([]Downstream, 200000)
		return nil
	case "hungry":
		var kept [][]byte
		for {
			block := make([]byte, 16<<20)
			for at := range block {
				block[at] = 1
			}
			kept = append(kept, block)
		}
	case "print":
		go func() {
			for {
				fmt.Println(strings.Repeat("flood ", 100))
			}
		}()
	case "shout":
		go func() {
			for {
				log.Println(strings.Repeat("flood ", 100))
			}
		}()
	case "spill":
		// Past go-plugin, which has put another file in the place of os.Stdout.
		go func() {
			for {
				first.WriteString(strings.Repeat("flood ", 1000))
			}
		}()
	case "slow":
		if atomic.AddInt32(&s.busy, 1) > 1 {
			os.Exit(4) // as a map without a lock would make it, sooner or later
		}
		time.Sleep(400 * time.Millisecond)
		atomic.AddInt32(&s.busy, -1)
	case "turn":
		// The state of a selector that lives on: it turns one further each time.
		by := s.asked % len(downstreams)
		*answer = append(append([]Downstream{}, downstreams[by:]...), downstreams[:by]...)
		return nil
	}
	for at := len(downstreams) - 1; at >= 0; at-- {
		*answer = append(*answer, downstreams[at])
	}
	return nil
}

// single is a selector of smtpmux's older interface, which answers with one address.
type single struct{}

// Select answers with the last address.
func (s *single) Select(downstreams []Downstream, answer *string) error {
	*answer = downstreams[len(downstreams)-1].Addr
	return nil
}

// served makes go-plugin serve a value.
type served struct{ value interface{} }

func (s served) Server(*plugin.MuxBroker) (interface{}, error) { return s.value, nil }

func (s served) Client(*plugin.MuxBroker, *rpc.Client) (interface{}, error) {
	return nil, errors.New("this is no host")
}

// wait does nothing, for longer than any test.
func wait() {
	time.Sleep(time.Hour)
}

// listening prints a handshake for a socket of its own, and does to whoever connects what `treat` does.
func listening(treat func(net.Conn)) {
	path := filepath.Join(os.Getenv("TMPDIR"), "own")
	listener, err := net.Listen("unix", path)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("1|1|unix|%s|netrpc|\n", path)
	for {
		connection, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		treat(connection)
	}
}

func main() {
	mode := filepath.Base(os.Args[0])
	log.SetOutput(os.Stderr)
	switch mode {
	case "mute":
		wait()
	case "chatty":
		fmt.Println("hello, I am no plugin")
		wait()
	case "endless":
		for {
			fmt.Print(strings.Repeat("x", 4096))
		}
	case "newer":
		fmt.Println("2|1|unix|/nowhere|netrpc|")
		wait()
	case "grpc":
		fmt.Println("1|1|unix|/nowhere|grpc|")
		wait()
	case "nowhere":
		fmt.Println("1|1|unix|/nowhere|netrpc|")
		wait()
	case "deaf":
		listening(func(net.Conn) { wait() })
	case "garbage":
		listening(func(connection net.Conn) { connection.Write([]byte(strings.Repeat("garbage", 10))) })
	case "drown":
		// Pings that are valid, and never end.
		listening(func(connection net.Conn) {
			pings := []byte(strings.Repeat("\x00\x02\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01", 1000))
			for {
				if _, err := connection.Write(pings); err != nil {
					return
				}
			}
		})
	}
	var value interface{} = &selector{mode: mode}
	if mode == "single" {
		value = &single{}
	}
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: plugin.HandshakeConfig{
			ProtocolVersion:  1,
			MagicCookieKey:   "SMTP_ROUTER_PLUGIN",
			MagicCookieValue: "hello",
		},
		Plugins: map[string]plugin.Plugin{"selector": served{value}},
	})
}
