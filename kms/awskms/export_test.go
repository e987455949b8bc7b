package awskms

import "time"

// SetRotationTimes has Rotate look again after pause, and give up after wait.
func SetRotationTimes(k *Key, wait, pause time.Duration) {
	k.rotation = rotationTimes{wait: wait, pause: pause}
}
