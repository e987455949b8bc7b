package payloadjson_test

import (
	"fmt"

	"github.com/waxseal/waxseal/internal/payloadjson"
)

func Example() {
	payloads, err := payloadjson.Parse(
		[]byte(`{"payloads": [{"data": "ImhpIg", "metadata": {"encoding": "anNvbi9wbGFpbg"}}]}`),
		payloadjson.Limits{Payloads: 10, Entries: 10})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s %s\n", payloads[0].Metadata["encoding"], payloads[0].Data)

	out, err := payloadjson.Append(nil, payloads)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(string(out))
	// Output:
	// json/plain "hi"
	// {"payloads":[{"metadata":{"encoding":"anNvbi9wbGFpbg=="},"data":"ImhpIg=="}]}
}

func ExampleParse_refused() {
	_, err := payloadjson.Parse([]byte(`{"payloads":[{"password":"hunter2"}]}`), payloadjson.Limits{Payloads: 10, Entries: 10})
	fmt.Println(err)
	// Output:
	// payloadjson: parse payloads: the document has an unknown field, at byte 14
}
