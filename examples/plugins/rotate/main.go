// A selector for smtpmux that is a true round robin, because Waypost keeps it alive between messages.
//
// Build it anywhere, and give Waypost the program:
//
//	go mod init rotate && go get github.com/hashicorp/go-plugin && go build -o rotate
//	plugins: {rotate: {go: ./rotate}}
//
// Downstream, Select and the handshake are what smtpmux has in its packages `types` and `shared`. They are repeated
// here so that this file is complete; a plugin that imports them from smtpmux runs as it is.
package main

import (
	"errors"
	"net/rpc"

	"github.com/hashicorp/go-plugin"
)

// Downstream is one upstream. Waypost never fills in Pass.
type Downstream struct {
	Addr string
	User string
	Pass string
}

// Rotate begins one further each time it is asked.
type Rotate struct {
	next int
}

// Select returns the downstreams to try, in order.
func (r *Rotate) Select(downstreams []Downstream, answer *[]Downstream) error {
	if len(downstreams) == 0 {
		return errors.New("there is none to choose from")
	}
	first := r.next % len(downstreams)
	r.next++
	*answer = append(append([]Downstream{}, downstreams[first:]...), downstreams[:first]...)
	return nil
}

// served is what go-plugin calls a plugin.
type served struct {
	selector *Rotate
}

func (s served) Server(*plugin.MuxBroker) (interface{}, error) {
	return s.selector, nil
}

func (served) Client(*plugin.MuxBroker, *rpc.Client) (interface{}, error) {
	return nil, errors.New("this program is a plugin, and no host of plugins")
}

func main() {
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: plugin.HandshakeConfig{
			ProtocolVersion:  1,
			MagicCookieKey:   "SMTP_ROUTER_PLUGIN",
			MagicCookieValue: "hello",
		},
		Plugins: map[string]plugin.Plugin{"selector": served{&Rotate{}}},
	})
}
